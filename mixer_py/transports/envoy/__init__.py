"""The transport `envoy`: HTTP/2 by Envoy, whose filter pyvoy calls the Python of a worker in the same process.

`process` becomes Envoy, `inside` is the Python there, `host` gives Envoy listeners, `server` is one of them,
`answering` speaks gRPC.
"""
