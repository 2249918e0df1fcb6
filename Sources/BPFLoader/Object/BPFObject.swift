// The compiled programs and their maps: opened from the bytes in the agent's binary, joined to the
// maps that an agent before this one pinned, loaded.

internal import CBPF
internal import CMallaABI
internal import CMallaObject
internal import Glibc
internal import MeshModel

/// - Owns: libbpf's object, which holds the descriptors of every program and map.
/// - Threads: one at a time.
@safe struct BPFObject: ~Copyable {
    private let object: OpaquePointer  // Freed only in `deinit`; never leaves this type.
    /// What an agent of an older ABI left, if any of it can be read.
    private(set) var older: OlderPins?

    private init(adopting object: OpaquePointer) { unsafe self.object = object }

    deinit { unsafe bpf_object__close(object) }

    /// Loads the embedded object.
    ///
    /// - Parameter sizes: rows of maps by name, for those that are made now; a pinned map keeps its
    ///   own.
    /// - Parameter directory: where maps are pinned, or found.
    /// - Parameter bpffsPath: where an older ABI's directory may be; `nil`: nowhere.
    /// - Parameter image: the object; tests pass others.
    /// - Throws: `.rejected` with the end of the verifier's log, `.mapsRefused`.
    static func load(
        sizes: [String: UInt32], directory: String, bpffsPath: String? = nil,
        image: [UInt8] = BPFObject.embedded
    ) throws(BPFError) -> BPFObject {
        let logBytes = 256 * 1024
        let log = UnsafeMutablePointer<CChar>.allocate(capacity: logBytes)
        unsafe log.initialize(repeating: 0, count: logBytes)
        defer { unsafe log.deallocate() }

        unsafe libbpf_set_print(nil)
        var options = unsafe bpf_object_open_opts()
        unsafe options.sz = MemoryLayout<bpf_object_open_opts>.size
        // The buffer outlives the load below, which is its last use.
        unsafe options.kernel_log_buf = log
        unsafe options.kernel_log_size = logBytes
        // libbpf copies the array's bytes.
        let opened = unsafe bpf_object__open_mem(image, image.count, &options)
        guard let pointer = unsafe opened else {
            throw .refused(call: .open, object: "the embedded eBPF object", errno: errno)
        }
        var object = unsafe BPFObject(adopting: pointer)

        if let bpffsPath {
            object.older = try OlderPins(bpffsPath: bpffsPath, maps: object.shapes())
        }
        try object.prepareMaps(sizes: sizes, directory: directory)
        if !canHold { try object.leaveOut(HoldAttachment.programs) }
        let result = unsafe bpf_object__load(object.object)
        guard result == 0 else {
            let said = unsafe tail(String(cString: log))
            // Maps are made before the first program is loaded.
            if said.isEmpty, let largest = sizes.max(by: { $0.value < $1.value }) {
                throw .mapsRefused(errno: -result, largest: largest.key, rows: largest.value)
            }
            throw .rejected(errno: -result, log: said)
        }
        try object.pinMaps(directory: directory)
        return object
    }

    /// The bytes in this binary.
    static var embedded: [UInt8] {
        // Constants of the binary: they live as long as the process.
        let bytes = unsafe UnsafeRawBufferPointer(
            start: malla_object_start(), count: Int(malla_object_bytes))
        return unsafe Array(bytes)
    }

    /// The verifier's last words as one line of a log.
    private static func tail(_ log: String) -> String {
        log.split(separator: "\n").suffix(6).joined(separator: " | ")
    }

    /// Whether cgroup_skb programs can tell network namespaces apart (Linux 6.15).
    static let canHold: Bool = {
        let getNamespaceCookie = bpf_func_id(122)
        return libbpf_probe_bpf_helper(
            BPF_PROG_TYPE_CGROUP_SKB, getNamespaceCookie, nil) == 1
    }()

    /// Programs that this kernel does not have the means for.
    private func leaveOut(_ programs: [String]) throws(BPFError) {
        for name in programs {
            guard let program = unsafe bpf_object__find_program_by_name(object, name) else {
                throw .missing(object: "program \(name)")
            }
            _ = unsafe bpf_program__set_autoload(program, false)
        }
    }

    /// Our maps by name; libbpf's own (`.rodata`) are none.
    private func shapes() -> [String: MapShape] {
        var shapes: [String: MapShape] = [:]
        var map = unsafe bpf_object__next_map(object, nil)
        while let each = unsafe map {
            let name = unsafe String(cString: bpf_map__name(each))
            if name.hasPrefix("malla_"), !name.contains(".") {
                shapes[name] = unsafe MapShape(
                    name: name, type: bpf_map__type(each).rawValue,
                    keyBytes: bpf_map__key_size(each), valueBytes: bpf_map__value_size(each))
            }
            unsafe map = bpf_object__next_map(object, each)
        }
        return shapes
    }

    private func prepareMaps(sizes: [String: UInt32], directory: String) throws(BPFError) {
        for (name, shape) in shapes() {
            guard let map = unsafe bpf_object__find_map_by_name(object, name) else { continue }
            let path = "\(directory)/\(name)"
            if let pinned = try PinDirectory.open(path) {
                let descriptor = Descriptor(adopting: pinned)
                try MapShape(of: descriptor.number, name: path).require(shape)
                try unsafe reuse(descriptor.number, as: map, path)
            } else if let taken = try older?.take(name) {
                try unsafe reuse(taken.number, as: map, path)
            } else if let entries = sizes[name] {
                _ = unsafe bpf_map__set_max_entries(map, entries)
            }
        }
    }

    private func reuse(_ descriptor: CInt, as map: OpaquePointer, _ path: String) throws(BPFError) {
        // libbpf keeps a copy of the descriptor.
        let result = unsafe bpf_map__reuse_fd(map, descriptor)
        guard result == 0 else { throw .refused(call: .open, object: path, errno: -result) }
    }

    /// Pins the maps that are not pinned there.
    ///
    /// - Returns: how many were not.
    @discardableResult
    func pinMaps(directory: String) throws(BPFError) -> Int {
        var count = 0
        var map = unsafe bpf_object__next_map(object, nil)
        while let each = unsafe map {
            let name = unsafe String(cString: bpf_map__name(each))
            let path = "\(directory)/\(name)"
            if name.hasPrefix("malla_"), !name.contains("."), unsafe access(path, F_OK) != 0 {
                try PinDirectory.pin(unsafe bpf_map__fd(each), at: path)
                count += 1
            }
            unsafe map = bpf_object__next_map(object, each)
        }
        return count
    }

    /// Pins every program in place of the one that an agent before this pinned by its name, and
    /// removes those that this build has not.
    func pinPrograms(directory: String) throws(BPFError) {
        var names: Set<String> = []
        var program = unsafe bpf_object__next_program(object, nil)
        while let each = unsafe program {
            let name = unsafe String(cString: bpf_program__name(each))
            try PinDirectory.replace(unsafe bpf_program__fd(each), at: "\(directory)/\(name)")
            names.insert(name)
            unsafe program = bpf_object__next_program(object, each)
        }
        for name in PinDirectory.names(in: directory) where !names.contains(name) {
            try PinDirectory.remove("\(directory)/\(name)")
        }
    }

    /// Pins one program in place of the one that is pinned there by its name.
    func pinProgram(_ name: String, directory: String) throws(BPFError) {
        try PinDirectory.replace(program(name), at: "\(directory)/\(name)")
    }

    /// The id of the program that is pinned there by the name; `nil`: none is.
    func pinnedProgram(_ name: String, directory: String) -> UInt32? {
        let opened = unsafe bpf_obj_get("\(directory)/\(name)")
        guard opened >= 0 else { return nil }
        let descriptor = Descriptor(adopting: opened)
        return programInfo(descriptor.number)?.id
    }

    /// Pins the programs that are not pinned there; how many were not.
    func pinMissingPrograms(directory: String) throws(BPFError) -> Int {
        var count = 0
        var program = unsafe bpf_object__next_program(object, nil)
        while let each = unsafe program {
            let path = "\(directory)/\(unsafe String(cString: bpf_program__name(each)))"
            // What was left out has no descriptor.
            let descriptor = unsafe bpf_program__fd(each)
            if descriptor >= 0, !PinDirectory.isPinned(path) {
                try PinDirectory.pin(descriptor, at: path)
                count += 1
            }
            unsafe program = bpf_object__next_program(object, each)
        }
        return count
    }

    /// A descriptor of the map, of the caller's own.
    func map(_ name: String) throws(BPFError) -> Descriptor {
        guard let map = unsafe bpf_object__find_map_by_name(object, name) else {
            throw .missing(object: "map \(name)")
        }
        let copy = fcntl(unsafe bpf_map__fd(map), F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw .refused(call: .open, object: "map \(name)", errno: errno) }
        return Descriptor(adopting: copy)
    }

    /// The program's descriptor; it lives as long as this object.
    func program(_ name: String) throws(BPFError) -> CInt {
        guard let program = unsafe bpf_object__find_program_by_name(object, name) else {
            throw .missing(object: "program \(name)")
        }
        return unsafe bpf_program__fd(program)
    }

    /// Where the interface's other end is; `nil`: the interface is gone, or the kernel cannot tell
    /// (`canHold`).
    ///
    /// - Source: bpf/hooks/behind.h; struct __sk_buff, words 10 (ifindex) and 12 (cb).
    func otherEnd(of interface: UInt32) -> OtherEnd? {
        var context = [UInt32](repeating: 0, count: 64)
        context[10] = interface
        let packet = [UInt8](repeating: 0, count: 64)
        guard run("malla_behind", packet, &context) != nil else { return nil }
        let cookie = UInt64(context[13]) << 32 | UInt64(context[12])
        return OtherEnd(cookie: cookie, index: context[14])
    }

    /// Judges an open connection of TCP as its next packet would be. If it may not go on, its ends
    /// on this node are asked for their numbers, and so reset.
    ///
    /// - Parameter sequence: the number in what they are sent, which none should wait for.
    /// - Parameter keeps: if it may go on they are asked too: what answers stays in the table.
    /// - Returns: how many ends were asked.
    /// - Source: bpf/hooks/nudge.h; struct __sk_buff, from word 12 (cb).
    func nudge(_ key: malla_flow_key, sequence: UInt32, keeps: Bool = false) -> Int {
        let isIPv4 = IPAddress(key.source).isIPv4
        // Ethernet, and room for the longest headers of a segment.
        var packet = [UInt8](repeating: 0, count: 14 + 40 + 20)
        packet.replaceSubrange(12..<14, with: isIPv4 ? [0x08, 0x00] : [0x86, 0xdd])
        // A key is as long as an IPv6 header, and has no padding of its own.
        unsafe withUnsafeBytes(of: key) { bytes in
            unsafe packet.replaceSubrange(14..<14 + bytes.count, with: bytes)
        }
        var context = [UInt32](repeating: 0, count: 64)
        (context[12], context[13]) = (sequence, keeps ? 1 : 0)
        return Int(run("malla_nudge", packet, &context) ?? 0)
    }

    /// Runs a program of tc as if it met the packet in the struct __sk_buff that `context` is.
    ///
    /// - Returns: what it answered; `nil`: it is not there, or does not run.
    private func run(_ name: String, _ packet: [UInt8], _ context: inout [UInt32]) -> UInt32? {
        guard let descriptor = try? program(name), descriptor >= 0 else { return nil }
        var options = unsafe bpf_test_run_opts()
        unsafe options.sz = MemoryLayout<bpf_test_run_opts>.size
        let bytes = UInt32(context.count * MemoryLayout<UInt32>.size)
        var answer = context
        // Every length is the array's own, and none is kept.
        let result = unsafe packet.withUnsafeBytes { packet in
            unsafe context.withUnsafeBytes { context in
                unsafe answer.withUnsafeMutableBytes { answer in
                    unsafe options.data_in = packet.baseAddress
                    unsafe options.data_size_in = UInt32(packet.count)
                    unsafe options.ctx_in = context.baseAddress
                    unsafe options.ctx_size_in = bytes
                    unsafe options.ctx_out = answer.baseAddress
                    unsafe options.ctx_size_out = bytes
                    return unsafe bpf_prog_test_run_opts(descriptor, &options)
                }
            }
        }
        context = answer
        return unsafe result == 0 ? options.retval : nil
    }

    /// Id and run counters; zero counts unless the sysctl kernel.bpf_stats_enabled is on.
    func statistics(ofProgram name: String) -> (id: UInt32, runs: UInt64, nanoseconds: UInt64)? {
        guard let descriptor = try? program(name), let kernel = programInfo(descriptor) else {
            return nil
        }
        return (kernel.id, kernel.run_cnt, kernel.run_time_ns)
    }
}

/// Of a pod's interface: what the pod has of it.
struct OtherEnd: Equatable {
    /// Of its network namespace; 0: there is no other end.
    var cookie: UInt64
    /// Of the device, in that namespace.
    var index: UInt32
}

/// What the kernel says of a program, but for what it would write to pointers.
func programInfo(_ descriptor: CInt) -> bpf_prog_info? {
    var kernel = bpf_prog_info()
    var bytes = UInt32(MemoryLayout<bpf_prog_info>.size)
    // No pointers are passed in: the kernel fills numbers and the name only.
    return unsafe bpf_obj_get_info_by_fd(descriptor, &kernel, &bytes) == 0 ? kernel : nil
}
