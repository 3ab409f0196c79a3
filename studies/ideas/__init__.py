"""What single ideas give per operation: `worldmodel ideas FILE` in a checkout (README.md here)."""
