"""Helpers of the tests: tiny models, naive references, small experiments, stand-ins for servers."""
