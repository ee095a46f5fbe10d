# Part of the probe: the container toolkit, CDI specifications, what the GPU Operator left.
# Not POSIX: nvidia-ctk

look_at_toolkit() {
    for dir in /usr/local/nvidia/toolkit /usr/bin /usr/local/bin /usr/sbin /opt/bin /run/current-system/sw/bin; do
        if [ -x "$R$dir/nvidia-container-runtime" ]; then emit toolkit-runtime 0 "$dir/nvidia-container-runtime"; break; fi
    done
    if have nvidia-ctk; then capture toolkit-version 10 nvidia-ctk --version; fi
    emit_file toolkit-config "$R/etc/nvidia-container-runtime/config.toml"
    specs=
    for spec in "$R"/etc/cdi/*.yaml "$R"/etc/cdi/*.json "$R"/var/run/cdi/*.yaml "$R"/var/run/cdi/*.json \
        "$R"/run/cdi/*.yaml "$R"/run/cdi/*.json; do
        if [ -f "$spec" ]; then specs="$specs${spec#"$R"}$NL"; fi
    done
    emit cdi-specs 0 "$specs"
}

look_at_operator() { # what the GPU Operator and the device plugin left
    :
}
