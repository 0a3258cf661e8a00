"""The shipped configs, one short file a setup; installed as the package `tljax.configs`."""
