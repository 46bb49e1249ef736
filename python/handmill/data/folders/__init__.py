"""Folders of files as data sets: images, texts, recordings, one sub-folder for each class."""
