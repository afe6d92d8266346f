"""The estimators: signature, docstring, and the model of their parameters."""
