# Asks the containerd behind the socket $ARGV[0] for its plugins of CRI and gRPC; prints them in the columns of `ctr plugins ls`.
use strict;
alarm 10;    # the time limit: no answer ends this program
socket(my $link, 1, 1, 0) or die "socket: $!\n";    # AF_UNIX, SOCK_STREAM: the same numbers on every Linux but MIPS
connect($link, pack("S a*", 1, $ARGV[0])) or die "$ARGV[0]: $!\n";

sub frame {    # type, flags, stream, payload of HTTP/2
    my ($type, $flags, $stream, $payload) = @_;
    return substr(pack("N", length $payload), 1) . pack("C C N", $type, $flags, $stream) . $payload;
}
my $filter  = "type~=\"io.containerd.(grpc|cri)\"";
my $message = "\n" . chr(length $filter) . $filter;    # PluginsRequest { filters = 1 }
my $path    = "/containerd.services.introspection.v1.Introspection/Plugins";
my $headers = "\x83\x86\x04" . chr(length $path) . $path    # POST, http, :path
    . "\x01\x01l" . "\x0f\x10\x10application/grpc" . "\x00\x02te\x08trailers";
syswrite $link, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, "") . frame(1, 4, 1, $headers)
    . frame(0, 1, 1, "\0" . pack("N", length $message) . $message);

my ($buffer, $answer) = ("", "");
ANSWER: while (sysread $link, $buffer, 65536, length $buffer) {
    while (length $buffer >= 9) {
        my $size = unpack "N", "\0" . substr($buffer, 0, 3);
        my ($type, $flags, $stream) = unpack "C C N", substr($buffer, 3, 6);
        last if length $buffer < 9 + $size;
        my $payload = substr $buffer, 9, $size;
        substr($buffer, 0, 9 + $size) = "";
        syswrite $link, frame(4, 1, 0, "") if $type == 4 && !($flags & 1);
        $answer .= $payload if $type == 0 && $stream == 1;
        last ANSWER if $type == 3 || $type == 7 || $stream == 1 && $flags & 1;
    }
}
die "$ARGV[0]: no answer to a question in gRPC\n" if length $answer < 5 || substr($answer, 0, 1) ne "\0";

sub varint {    # bytes, position (moved on)
    my ($value, $shift, $byte) = (0, 0, 0);
    do { $byte = ord substr $_[0], $_[1]++, 1; $value |= ($byte & 127) << $shift; $shift += 7 } while $byte & 128;
    return $value;
}
sub fields {    # a message of protobuf: number of the field => values
    my ($bytes, $at, %found) = ($_[0], 0);
    while ($at < length $bytes) {
        my $key = varint($bytes, $at);
        my $value = varint($bytes, $at);
        if (($key & 7) == 2) { my $size = $value; $value = substr $bytes, $at, $size; $at += $size }
        elsif ($key & 7) { die "$ARGV[0]: its answer cannot be read\n" }
        push @{ $found{ $key >> 3 } }, $value;
    }
    return \%found;
}
for my $entry (@{ fields(substr $answer, 5)->{1} || [] }) {
    my $plugin = fields($entry);    # Plugin { type = 1, id = 2, init_err = 7 }
    my $state  = "ok";
    $state = (fields($plugin->{7}[0])->{1}[0] || 0) == 12 ? "skip" : "error" if $plugin->{7};    # 12: not implemented
    print "$plugin->{1}[0] $plugin->{2}[0] - $state\n";
}
