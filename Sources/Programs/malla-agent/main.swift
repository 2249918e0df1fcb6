// The executable `malla-agent`: all of it is the module NodeAgent, which tests can import.

internal import NodeAgent

AgentProgram.main()
