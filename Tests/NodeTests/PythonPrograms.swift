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

    /// Calls address and port so many times, a connection each; prints who has answered, in order.
    /// With the path of malla_affinity: before each call the service's time is over for everybody.
    static let visits =
        bpf + """
            import http.client
            def forget(path):
                affinity = opened(path)
                key, row = [ctypes.create_string_buffer(32) for _ in range(2)]
                at, to = ctypes.addressof(key), ctypes.addressof(row)
                keys = []
                try:
                    while True:
                        bpf(4, "=QQQ", affinity, at if keys else 0, at)
                        keys.append(key.raw)
                except OSError: pass
                for key.raw in keys:
                    bpf(1, "=QQQQ", affinity, at, to, 0)
                    row.raw = bytes(8) + row.raw[8:]
                    bpf(2, "=QQQQ", affinity, at, to, 0)
                os.close(affinity)
            who = []
            for _ in range(int(sys.argv[3])):
                if len(sys.argv) > 4: forget(glob.glob(sys.argv[4])[-1])
                link = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
                try:
                    link.request("GET", "/")
                    answer = link.getresponse()
                    who.append(answer.getheader("x-pod") or str(answer.status))
                except ConnectionRefusedError: who.append("refused")
                except OSError as error: who.append(type(error).__name__)
                link.close()
            print(*who)
            """
}
