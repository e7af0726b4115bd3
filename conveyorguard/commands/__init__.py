"""The verbs of the command line, one module per verb, and what several of them share. Only verbs draw pages."""
