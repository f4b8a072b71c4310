"""The sample factory: real key figures of two municipalities, and deliveries and tables made up around them.

Belongs here: what makes the main job run anywhere without a network, and what a test can compare with. Does not
belong here: anything that a real factory needs.
"""
