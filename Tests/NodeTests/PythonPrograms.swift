/// Python that several suites run in pods and on nodes.
enum PythonPrograms {
    /// Sends a line every 50 ms to whoever connects to the port that is its argument; without end.
    static let ticker = """
        import socket, sys, threading, time
        s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("::", int(sys.argv[1])))
        s.listen(8)
        print("up", flush=True)
        def tick(c):
            while True:
                c.sendall(b"tick\\n")
                time.sleep(0.05)
        while True: threading.Thread(target=tick, args=(s.accept()[0],), daemon=True).start()
        """
    /// Says nothing to address and port, prints how much it is told.
    static let listener = """
        import socket, sys
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        while True:
            text = s.recv(4096)
            if not text: break
            print(len(text), flush=True)
        """

    /// bpf(2), and BPF_OBJ_GET by path, for a program behind it.
    static let bpf = """
        import ctypes, glob, os, struct, sys, time
        libc = ctypes.CDLL(None, use_errno=True)
        def bpf(command, *words):
            attributes = ctypes.create_string_buffer(struct.pack(*words), 64)
            result = libc.syscall(321, command, attributes, 64)
            if result < 0: raise OSError(ctypes.get_errno(), "bpf(%d)" % command)
            return result
        def opened(path):
            text = ctypes.create_string_buffer(path.encode())
            return bpf(7, "=QII", ctypes.addressof(text), 0, 0)

        """
}
