"""The verbs of the command line, a file a verb, and what several of them share; they alone draw pages."""
