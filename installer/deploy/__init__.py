"""From a bundle to a host that serves: what `kura-installer install` and `configure` do."""
