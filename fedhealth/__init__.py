"""flwr_federated_health: hospitals train one heart-disease risk model together; no patient row leaves a hospital."""

__version__ = "0.1.0"
