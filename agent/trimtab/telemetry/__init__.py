"""What a run says about itself while it lasts: a page of metrics that Prometheus reads."""
