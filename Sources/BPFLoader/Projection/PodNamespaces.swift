// malla_space: the network namespaces of pods whose programs are attached and whose rows are all
// there, by cookie. malla_device: the devices by which they may be reached. Sockets of every other
// one below the cgroup are held (bpf/hooks/hold.h).
//
// A pod's own device is the other end of the interface with its programs. One that was made in its
// place is none of its devices before `apply` has found it. Those that the pod has beside it are
// met by packets first: programs put them into malla_asked, and `answer` finds the pod's interface
// in its place, so that they stand for no other.

internal import CMallaABI

/// - Owns: the maps, and what the kernel said of each interface.
struct PodNamespaces: ~Copyable {
    /// Devices of one pod beside its own. Most have none; one that runs containers, some dozens.
    static let othersPerPodMax = 64
    /// Of all pods. The map has room for every pod's own besides.
    static let othersMax = 8192

    /// The interface, by cookie.
    private var spaces: CopiedMap<UInt64, UInt32>
    /// MALLA_DEVICE_*.
    private var devices: CopiedMap<malla_device, UInt32>
    private let asked: BPFMap<malla_device, UInt32>
    /// How often a device was one too many.
    private(set) var refused: UInt64 = 0
    /// By interface: where its other end is, as `apply` was told.
    private var ends: [UInt32: OtherEnd] = [:]

    init(_ object: borrowing BPFObject) throws(BPFError) {
        let spaces = try CopiedMap<UInt64, UInt32>(object, "malla_space", key: 0, value: 0)
        let devices = try CopiedMap<malla_device, UInt32>(
            object, "malla_device", key: malla_device(), value: 0)
        asked = try BPFMap(adopting: object.map("malla_asked"), name: "malla_asked")
        self.spaces = spaces
        self.devices = devices
    }

    /// Opens the namespaces behind these interfaces, and no others.
    ///
    /// - Returns: interfaces that have no other end: neither veth nor netkit.
    /// - Complexity: a system call an interface.
    mutating func apply(
        _ interfaces: [UInt32], _ object: borrowing BPFObject
    ) throws(BPFError) -> Set<UInt32> {
        ends = [:]
        for index in interfaces { ends[index] = object.otherEnd(of: index) }
        var wanted: [UInt64: UInt32] = [:]
        var reached: [malla_device: UInt32] = [:]
        for (index, end) in ends where end.cookie != 0 {
            wanted[end.cookie] = index
            reached[end.device] = UInt32(MALLA_DEVICE_OWN)
        }
        // What a pod has beside its own stays, also where that was made anew.
        for (device, kind) in devices.rows where kind == UInt32(MALLA_DEVICE_OTHER) {
            guard wanted[device.namespace_cookie] != nil, reached[device] == nil else { continue }
            reached[device] = kind
        }
        try devices.become(reached)
        try spaces.become(wanted)
        return Set(ends.filter { $0.value.cookie == 0 }.keys)
    }

    /// Closes at once what is behind an interface that there is no more: another may take its place
    /// before the next `apply`.
    ///
    /// - Returns: interfaces whose other end is another than at the last `apply`.
    mutating func look(
        present: Set<UInt32>, _ object: borrowing BPFObject
    ) -> Set<UInt32> {
        let gone = Set(spaces.rows.filter { !present.contains($0.value) }.keys)
        if !gone.isEmpty {
            for device in devices.rows.keys where gone.contains(device.namespace_cookie) {
                devices.take(device)
            }
        }
        for cookie in gone { spaces.take(cookie) }
        var moved: Set<UInt32> = []
        for (index, end) in ends where present.contains(index) {
            if object.otherEnd(of: index) != end { moved.insert(index) }
        }
        return moved
    }

    func usage() -> [MapUsage] {
        [
            MapUsage(
                name: "malla_space", type: "hash", entries: spaces.count,
                entriesMax: UInt64(spaces.entriesMax), refused: 0),
            MapUsage(
                name: "malla_device", type: "hash", entries: devices.count,
                entriesMax: UInt64(devices.entriesMax), refused: refused),
        ]
    }

    /// What programs have met since the last `answer`: to be taken before anything is looked at,
    /// so that what is looked at then was there when they were met, or is no more.
    func questions() -> [malla_device] {
        var questions: [malla_device] = []
        guard !asked.isEmpty else { return questions }
        asked.walk { device, _ in questions.append(device) }
        return questions
    }

    /// Lets devices be reached that are beside a pod's own one; who is not, asks again.
    ///
    /// - Parameter broken: interfaces that lack one of their programs.
    /// - Complexity: a system call or three a question, of which there are 1024 at most.
    mutating func answer(
        _ questions: [malla_device], broken: Set<UInt32>, _ object: borrowing BPFObject
    ) {
        guard !questions.isEmpty else { return }
        var others: [UInt64: Int] = [:]
        for (device, kind) in devices.rows where kind == UInt32(MALLA_DEVICE_OTHER) {
            others[device.namespace_cookie, default: 0] += 1
        }
        var total = others.values.reduce(0, +)
        for device in questions {
            let cookie = device.namespace_cookie
            defer { _ = asked.take(device) }
            guard let interface = spaces.rows[cookie], !broken.contains(interface),
                let end = ends[interface], end.cookie == cookie, devices.rows[device] == nil,
                object.otherEnd(of: interface) == end
            else { continue }
            // Nobody tells when a device of a pod is no more.
            if others[cookie, default: 0] >= Self.othersPerPodMax,
                let oldest = Self.oldest(devices.rows, of: cookie)
            {
                devices.take(oldest)
                refused += 1
                others[cookie, default: 0] -= 1
                total -= 1
            }
            guard total < Self.othersMax else {
                refused += 1
                continue
            }
            // Refused by the kernel, it is asked for again.
            guard (try? devices.put(device, UInt32(MALLA_DEVICE_OTHER))) != nil else { continue }
            others[cookie, default: 0] += 1
            total += 1
        }
    }

    /// That which the pod made first: a namespace numbers its devices upwards. If it is in use yet,
    /// it is asked for again.
    static func oldest(_ rows: [malla_device: UInt32], of cookie: UInt64) -> malla_device? {
        rows.filter { $0.key.namespace_cookie == cookie && $0.value == UInt32(MALLA_DEVICE_OTHER) }
            .keys.min { $0.index < $1.index }
    }
}

extension OtherEnd {
    fileprivate var device: malla_device {
        malla_device(namespace_cookie: cookie, index: index, pad: 0)
    }
}
