"""Images from memory and from folders, augmented, in batches."""
