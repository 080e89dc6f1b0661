"""Training and evaluation of classifiers on encrypted images, one configuration a result."""
