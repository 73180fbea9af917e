"""The vocabulary: what is known about a request, under Mixer's names."""
