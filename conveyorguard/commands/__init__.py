"""What the verbs do, a file a verb, and what several of them share; they alone draw pages."""
