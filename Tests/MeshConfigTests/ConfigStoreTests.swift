internal import Foundation
internal import MeshConfig
internal import MeshModel
import Testing

@Suite("A directory becomes a mesh")
struct ConfigStoreTests {
    static let shop = """
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop}
        ---
        apiVersion: v1
        kind: Node
        metadata: {name: n1}
        status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: Hostname, address: n1}]}
        ---
        apiVersion: v1
        kind: Pod
        metadata:
          name: web-1
          namespace: shop
          labels: {app: web}
          annotations: {malla.io/interface: lxc-web-1}
        spec:
          nodeName: n1
          serviceAccountName: web
          containers: [{name: main, image: none, ports: [{name: http, containerPort: 8080}]}]
        status: {phase: Running, podIP: 10.1.0.5, podIPs: [{ip: 10.1.0.5}, {ip: "fd00::5"}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: web, namespace: shop}
        spec:
          clusterIP: 10.96.0.10
          clusterIPs: [10.96.0.10]
          selector: {app: web}
          ports: [{name: http, port: 80, targetPort: http, protocol: TCP}]
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: GatewayClass
        metadata: {name: edge-class}
        spec: {controllerName: malla.io/gateway-controller}
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: edge, namespace: shop}
        spec:
          gatewayClassName: edge-class
          listeners: [{name: web, port: 8000, protocol: HTTP, hostname: "*.Example.com"}]

        """

    static func route(_ name: String = "web", spec: String) -> String {
        """
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: \(name), namespace: shop}
        spec: \(spec)

        """
    }

    static let plainRoute = route(
        spec: """
            {parentRefs: [{name: edge}], hostnames: [a.example.com],
              rules: [{backendRefs: [{name: web, port: 80}]}]}
            """)

    @Test func `objects of a shop become nodes, workloads, services, listeners and routes`() throws
    {
        let text = Self.shop.replacing("*.Example.com", with: "*.example.com") + Self.plainRoute
        let result = try TestDirectory.load(text)
        #expect(result.diagnostics.map(\.description) == [])
        #expect(result.mesh.nodes == [Node(name: "n1", addresses: [IPAddress(v4: 0x0a00_0001)])])
        let pod = try #require(result.mesh.workloads.first)
        #expect(pod.interface == "lxc-web-1" && pod.isMeshed && pod.serviceAccount == "web")
        #expect(pod.addresses.map(\.description) == ["10.1.0.5", "fd00::5"])
        let port = try #require(result.mesh.services.first?.ports.first)
        #expect(port.application == .http && port.port == 80)
        #expect(port.endpoints.map(\.address.description) == ["10.1.0.5:8080", "[fd00::5]:8080"])
        #expect(result.mesh.listeners.map(\.hostname) == ["*.example.com"])
        let route = try #require(result.mesh.routes.first)
        #expect(route.attachments == [.listener(0, hostnames: ["a.example.com"])])
        #expect(route.rules[0].backends[0].target == .service(0, port: 0))
        #expect(result.routeStatuses[0].parents[0].isAccepted)
        #expect(result.gatewayStatuses[0].listeners[0].attachedRoutes == 1)
        #expect(result.objectCount == 7 && result.fileCount == 1 && result.isChanged)
    }
}
