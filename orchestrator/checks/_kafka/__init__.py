"""`kafka`: a cluster of which a broker can be reached where it says that it is."""
