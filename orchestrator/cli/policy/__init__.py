"""`check-policy`: does a policy go with the time limits around it?"""
