"""Folders of Hugging Face's libraries: which tensor is which weight; read strictly, and written."""
