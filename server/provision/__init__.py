"""Keys, certificates and site kits."""
