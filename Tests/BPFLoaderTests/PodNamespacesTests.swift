internal import CMallaABI
internal import Testing

@testable internal import BPFLoader

@Suite("Devices that a pod has beside its own (docs/operations.md)")
struct PodNamespacesTests {
    @Test func `one too many takes the place of that which the pod made first`() {
        func device(_ cookie: UInt64, _ index: UInt32) -> malla_device {
            malla_device(namespace_cookie: cookie, index: index, pad: 0)
        }
        let rows: [malla_device: UInt32] = [
            device(7, 2): UInt32(MALLA_DEVICE_OWN),
            device(7, 9): UInt32(MALLA_DEVICE_OTHER),
            device(7, 5): UInt32(MALLA_DEVICE_OTHER),
            device(8, 3): UInt32(MALLA_DEVICE_OTHER),
        ]
        #expect(PodNamespaces.oldest(rows, of: 7) == device(7, 5))
        #expect(PodNamespaces.oldest(rows, of: 9) == nil)
    }
}
