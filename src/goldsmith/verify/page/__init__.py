"""The test report as one HTML file: no address in it leads anywhere, so that it can be kept and sent about."""
