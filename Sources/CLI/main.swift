// The executable `malla`: one file a command, one way to print a table or JSON. It asks the agent
// over its socket and never changes anything on the node.

internal import ArgumentParser

Malla.main()
