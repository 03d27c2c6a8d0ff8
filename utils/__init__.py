"""General helpers, independent of optical flow, networks and tracks."""
