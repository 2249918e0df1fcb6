// A compiled eBPF object, loaded into maps of its own, and its programs run by BPF_PROG_TEST_RUN.

internal import CBPF
internal import CMallaABI
internal import Foundation
internal import Glibc

/// - Owns: libbpf's object, and with it programs and maps; nothing is pinned or attached.
@safe final class KernelObject {
    private let object: OpaquePointer
    /// Of the engine's only worker.
    private let listener = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)

    /// - Parameter name: of a file in build/bpf, without `.bpf.o`.
    /// - Parameter only: the one program to load; all of them otherwise.
    /// - Parameter ringBytes: of the flow events.
    /// - Parameter rows: of maps that the test wants other than small.
    init(
        _ name: String, only: String? = nil, ringBytes: UInt32 = 1 << 20,
        rows: [String: UInt32] = [:]
    ) throws {
        let path = Self.root + "/build/bpf/\(name).bpf.o"
        guard FileManager.default.fileExists(atPath: path) else {
            throw KernelFailure("\(path) is missing: run `make bpf`")
        }
        unsafe libbpf_set_print(nil)
        guard let object = unsafe bpf_object__open_file(path, nil) else {
            throw KernelFailure("cannot open \(path)")
        }
        unsafe self.object = object
        // Small tables: every test has its own.
        let tables = [
            "malla_service", "malla_endpoint", "malla_pod", "malla_flow", "malla_dialled",
            "malla_ipcache", "malla_policy", "malla_set", "malla_ring", "malla_fragment",
            "malla_share", "malla_quota", "malla_snat", "malla_affinity",
            "malla_denied", "malla_place",
        ]
        for map in tables {
            guard let found = unsafe bpf_object__find_map_by_name(object, map) else { continue }
            _ = unsafe bpf_map__set_max_entries(found, rows[map] ?? 1024)
        }
        if let ring = unsafe bpf_object__find_map_by_name(object, "malla_event") {
            _ = unsafe bpf_map__set_max_entries(ring, ringBytes)
        }
        var program = unsafe only == nil ? nil : bpf_object__next_program(object, nil)
        while let each = unsafe program {
            let isWanted = unsafe String(cString: bpf_program__name(each)) == only
            _ = unsafe bpf_program__set_autoload(each, isWanted)
            unsafe program = bpf_object__next_program(object, each)
        }
        let result = unsafe bpf_object__load(object)
        guard result == 0 else { throw KernelFailure("cannot load \(path): errno \(-result)") }
        guard listen(listener, 8) == 0 else { throw KernelFailure("cannot listen: errno \(errno)") }
        if unsafe bpf_object__find_map_by_name(object, "malla_listen") != nil {
            try put("malla_listen", UInt32(0), UInt64(listener))
        }
    }

    deinit {
        close(listener)
        unsafe bpf_object__close(object)
    }

    /// The repository: MALLA_TEST_ROOT, else where this file was compiled.
    static var root: String {
        ProcessInfo.processInfo.environment["MALLA_TEST_ROOT"]
            ?? URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().path
    }

    /// Names of the programs that are tests: every one that is no hook of malla.bpf.c.
    static func tests(in name: String) -> [String] {
        let path = root + "/build/bpf/\(name).bpf.o"
        unsafe libbpf_set_print(nil)
        guard let object = unsafe bpf_object__open_file(path, nil) else { return [] }
        defer { unsafe bpf_object__close(object) }
        var names: [String] = []
        var program = unsafe bpf_object__next_program(object, nil)
        while let each = unsafe program {
            let name = unsafe String(cString: bpf_program__name(each))
            if !name.hasPrefix("malla_") { names.append(name) }
            unsafe program = bpf_object__next_program(object, each)
        }
        return names
    }

    private func program(_ name: String) throws -> Int32 {
        guard let program = unsafe bpf_object__find_program_by_name(object, name) else {
            throw KernelFailure("no program \(name)")
        }
        return unsafe bpf_program__fd(program)
    }

    /// Name, type (enum bpf_map_type), bytes of key and of value of each map of ours.
    var maps: [String] {
        var maps: [String] = []
        var map = unsafe bpf_object__next_map(object, nil)
        while let each = unsafe map {
            let name = unsafe String(cString: bpf_map__name(each))
            if name.hasPrefix("malla_"), !name.contains(".") {
                let (key, value) = unsafe (bpf_map__key_size(each), bpf_map__value_size(each))
                maps.append("\(name) \(unsafe bpf_map__type(each).rawValue) \(key) \(value)")
            }
            unsafe map = bpf_object__next_map(object, each)
        }
        return maps
    }

    func map(_ name: String) throws -> Int32 {
        guard let map = unsafe bpf_object__find_map_by_name(object, name) else {
            throw KernelFailure("no map \(name)")
        }
        return unsafe bpf_map__fd(map)
    }

    func put<Key: BitwiseCopyable, Value: BitwiseCopyable>(
        _ name: String, _ key: Key, _ value: Value
    ) throws {
        var key = key
        var value = value
        let result = unsafe bpf_map_update_elem(try map(name), &key, &value, 0)
        guard result == 0 else { throw KernelFailure("cannot write \(name): errno \(-result)") }
    }

    func value<Key: BitwiseCopyable, Value: BitwiseCopyable>(
        _ name: String, _ key: Key, placeholder: Value
    ) throws -> Value? {
        var key = key
        var value = placeholder
        return unsafe bpf_map_lookup_elem(try map(name), &key, &value) == 0 ? value : nil
    }

    /// Runs a tc program on `packet`.
    func run(_ name: String, packet: [UInt8]) throws -> (answer: Int32, packet: [UInt8]) {
        let result = try pass(name, packet: packet, seal: 0)
        return (result.answer, result.packet)
    }

    /// The same behind another program of its hook.
    ///
    /// - Parameter seal: what that has left in cb[0]; the answer says what this one leaves there.
    /// - Parameter next: what is in cb[1].
    func pass(
        _ name: String, packet: [UInt8], seal: UInt32, mark: UInt32 = 0, next: UInt32 = 0
    ) throws -> (answer: Int32, packet: [UInt8], seal: UInt32) {
        let descriptor = try program(name)
        var output = [UInt8](repeating: 0, count: packet.count + 64)
        let capacity = output.count
        // struct __sk_buff, whose mark is at 8, and whose cb begins at 48.
        var context = [UInt32](repeating: 0, count: 48)
        (context[2], context[12], context[13]) = (mark, seal, next)
        var options = unsafe bpf_test_run_opts()
        unsafe options.sz = MemoryLayout<bpf_test_run_opts>.size
        // All buffers live until the call returns.
        let result = unsafe packet.withUnsafeBytes { input in
            unsafe output.withUnsafeMutableBytes { bytes in
                unsafe context.withUnsafeMutableBytes { skb in
                    unsafe options.data_in = input.baseAddress
                    unsafe options.data_size_in = UInt32(input.count)
                    unsafe options.data_out = bytes.baseAddress
                    unsafe options.data_size_out = UInt32(capacity)
                    unsafe options.ctx_in = UnsafeRawPointer(skb.baseAddress)
                    unsafe options.ctx_size_in = UInt32(skb.count)
                    unsafe options.ctx_out = skb.baseAddress
                    unsafe options.ctx_size_out = UInt32(skb.count)
                    return unsafe bpf_prog_test_run_opts(descriptor, &options)
                }
            }
        }
        guard result == 0 else { throw KernelFailure("\(name) does not run: errno \(-result)") }
        let length = unsafe Int(options.data_size_out)
        return unsafe (
            Int32(bitPattern: options.retval), Array(output.prefix(length)), context[12]
        )
    }

    /// Runs a program whose input is a context only.
    func run(_ name: String, context: [UInt8]) throws -> (answer: UInt32, context: [UInt8]) {
        let descriptor = try program(name)
        var output = context
        var options = unsafe bpf_test_run_opts()
        unsafe options.sz = MemoryLayout<bpf_test_run_opts>.size
        // Both buffers live until the call returns.
        let result = unsafe context.withUnsafeBytes { input in
            unsafe output.withUnsafeMutableBytes { bytes in
                unsafe options.ctx_in = input.baseAddress
                unsafe options.ctx_size_in = UInt32(input.count)
                unsafe options.ctx_out = bytes.baseAddress
                unsafe options.ctx_size_out = UInt32(bytes.count)
                return unsafe bpf_prog_test_run_opts(descriptor, &options)
            }
        }
        guard result == 0 else { throw KernelFailure("\(name) does not run: errno \(-result)") }
        return unsafe (options.retval, output)
    }
}

struct KernelFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
