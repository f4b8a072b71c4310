"""What raw tables must look like: pandera schemas, validated on eager polars frames."""
