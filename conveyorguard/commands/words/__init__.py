"""The words after a verb: parsed, quoted for Hydra, checked, and answered with a suggestion where they are mistyped."""
