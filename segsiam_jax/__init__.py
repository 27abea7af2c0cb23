"""Image segmentation and Siamese networks in JAX."""
