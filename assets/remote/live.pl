# Asks the daemon behind the socket $ARGV[0] for the page $ARGV[1] over HTTP: Docker's /info, or CRI-O's /config.
# Prints `default NAME` and `handler NAME` lines of what it runs with, and nothing else of what it said.
use strict;
alarm 5;    # the time limit: no answer ends this program
socket(my $link, 1, 1, 0) or die "socket: $!\n";    # AF_UNIX, SOCK_STREAM: the same numbers on every Linux but MIPS
connect($link, pack("S a*", 1, $ARGV[0])) or die "$ARGV[0]: $!\n";
syswrite $link, "GET $ARGV[1] HTTP/1.0\r\nHost: localhost\r\n\r\n";
my $text = "";
while (length $text < 4194304 && sysread $link, $text, 65536, length $text) { }
$text =~ s/\A(HTTP\/1\.[01] 200 [^\r\n]*\r?\n.*?\r?\n\r?\n)//s or die "$ARGV[0]: it gave no answer\n";
my $object = qr/(\{(?:[^{}"]++|"(?:[^"\\]|\\.)*+"|(?-1))*+\})/s;
if ($ARGV[1] eq "/info") {
    $text =~ /"DefaultRuntime"\s*:\s*"([^"\\]+)"/ or die "$ARGV[0]: it names no default runtime\n";
    print "default $1\n";
    $text =~ /"Runtimes"\s*:\s*$object/ or die "$ARGV[0]: it names no runtimes\n";
    my $runtimes = substr $1, 1;
    print "handler $1\n" while $runtimes =~ /\G[\s,]*"([^"\\]+)"\s*:\s*(?:$object)/g;
}
else {    # TOML; what is as it would be without a file may stand behind "# "
    my $table = "";
    for (split /\r?\n/, $text) {
        s/^[\s#]+|\s+$//g;
        if (/^\[(crio[^\[\]]*)\]$/) {
            $table = $1;
            print "handler $1\n" if $table =~ /^crio\.runtime\.runtimes\."?([^".]+)"?$/;
        }
        elsif ($table eq "crio.runtime" && /^default_runtime\s*=\s*["']([^"']*)["']/) { print "default $1\n" }
    }
}
