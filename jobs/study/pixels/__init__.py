"""What the study of PixelCNN is made of."""
