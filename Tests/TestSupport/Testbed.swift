// Nodes and pods of network namespaces.
