"""Record: the table of columns, access logs as columns, Istio's metrics, decision log, queue and sinks."""
