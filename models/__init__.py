"""ConvMixer and ViT classifiers whose patch embedding accepts encrypted images."""
