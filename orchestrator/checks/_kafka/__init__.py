"""`kafka`: a cluster with a broker that can be reached at the address it advertises."""
