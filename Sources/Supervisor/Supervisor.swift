// The first process of `malla-agent`: owns the listening sockets and the engine's namespace, starts
// the agent proper and starts it again. Parses nothing.
