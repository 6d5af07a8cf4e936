//! The names that peers look for are the ones our services carry.

#[test]
fn services_carry_the_names_of_the_protocol() {
    let names = [
        proto::control::control_server::SERVICE_NAME,
        proto::gateway::llb_bridge_server::SERVICE_NAME,
        proto::filesync::file_sync_server::SERVICE_NAME,
        proto::filesync::file_send_server::SERVICE_NAME,
        proto::filesync::auth_server::SERVICE_NAME,
        proto::secrets::secrets_server::SERVICE_NAME,
        proto::ssh::ssh_server::SERVICE_NAME,
        proto::upload::upload_server::SERVICE_NAME,
        proto::exporter::exporter_server::SERVICE_NAME,
        proto::content::content_server::SERVICE_NAME,
        proto::policysession::policy_verifier_server::SERVICE_NAME,
        proto::trace::trace_service_server::SERVICE_NAME,
        proto::volumes::volumes_server::SERVICE_NAME,
    ];
    let expected = [
        "moby.buildkit.v1.Control",
        "moby.buildkit.v1.frontend.LLBBridge",
        "moby.filesync.v1.FileSync",
        "moby.filesync.v1.FileSend",
        "moby.filesync.v1.Auth",
        "moby.buildkit.secrets.v1.Secrets",
        "moby.sshforward.v1.SSH",
        "moby.upload.v1.Upload",
        "moby.exporter.v1.Exporter",
        "containerd.services.content.v1.Content",
        "moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier",
        "opentelemetry.proto.collector.trace.v1.TraceService",
        "larder.volumes.v1.Volumes",
    ];
    assert_eq!(names, expected);
}
