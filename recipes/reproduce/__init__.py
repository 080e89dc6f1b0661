"""The papers' accuracy tables: one YAML file each, and what runs them."""
