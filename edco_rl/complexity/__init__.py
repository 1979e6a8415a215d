"""Complexity-aware fine-tuning (arXiv 2506.21220): its stages, and the methods it is compared with."""
