# Runs once inside a bare tree (chroot, no network): users, sshd, PAM, sudo, and units that a lab host does not need.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

# name, password: what each user is for is said in tests/lab/README.md
add() {
    useradd -m -s /bin/bash "$1"
    printf '%s:%s\n' "$1" "$2" | chpasswd
    install -d -m 700 -o "$1" -g "$1" "/home/$1/.ssh"
}
add admin lab-admin-pw
add ops lab-ops-pw
add guest lab-guest-pw
add typist lab-typist-pw
add twofactor lab-twofactor-pw

umask 077
echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin
for user in ops typist twofactor; do echo "$user ALL=(ALL) ALL"; done >/etc/sudoers.d/with-password
chmod 440 /etc/sudoers.d/*
umask 022

cat >/etc/ssh/sshd_config.d/lab.conf <<'CONF'
# short and predictable: one host key, many parallel logins, passwords only where a test wants them
HostKey /etc/ssh/ssh_host_ed25519_key
MaxStartups 200:30:400
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication yes
AuthenticationMethods publickey
Match User typist
    PasswordAuthentication yes
    AuthenticationMethods password
Match User twofactor
    AuthenticationMethods keyboard-interactive
CONF
# from 9.8 on sshd refuses an address for a while after failed logins, and every test comes from the same address
if sshd -V 2>&1 | grep -Eq 'OpenSSH_(9\.[89]|[1-9][0-9])'; then
    sed -i '1a PerSourcePenalties no' /etc/ssh/sshd_config.d/lab.conf
fi

# a real second factor: the password, then the code of the authenticator; users without a secret are not asked
sed -i '/^@include common-auth/a auth required pam_google_authenticator.so nullok' /etc/pam.d/sshd
grep -q pam_google_authenticator /etc/pam.d/sshd
umask 077
printf '%s\n' JBSWY3DPEHPK3PXPJBSWY3DPEH '" WINDOW_SIZE 5' '" TOTP_AUTH' >/home/twofactor/.google_authenticator
chown twofactor:twofactor /home/twofactor/.google_authenticator
chmod 400 /home/twofactor/.google_authenticator
umask 022

rm -f /etc/ssh/ssh_host_* /etc/machine-id
: >/etc/machine-id
for unit in apt-daily.timer apt-daily-upgrade.timer console-getty.service dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty.target ldconfig.service systemd-firstboot.service \
    systemd-networkd.service systemd-networkd-wait-online.service systemd-resolved.service \
    systemd-timesyncd.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
systemctl enable -q ssh.service containerd.service
systemctl disable -q ssh.socket 2>/dev/null || echo 'no ssh.socket here'
: >/etc/resolv.conf
apt-get clean
rm -rf /var/lib/apt/lists/*
