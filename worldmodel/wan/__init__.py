"""The parts of the Wan family of video models: files, autoencoders, text encoder."""
