"""What tests share: tiny models, naive references, small experiments, stand-ins for servers."""
