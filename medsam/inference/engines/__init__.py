"""Who runs the network: torch, or on a CPU the exported graphs in OpenVINO.

base      what every engine does (`Engine`), and an engine that stands in for another (`FallbackEngine`)
torch     the network as it is, on any device
openvino  its graphs on a CPU
choose    which of them suits a device
"""
