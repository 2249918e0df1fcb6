// The executable `malla`: all of it is the module CLI, which tests can import.

internal import CLI

CommandLineProgram.main()
