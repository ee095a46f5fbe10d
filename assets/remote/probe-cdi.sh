# Part of the probe: the CDI specifications of the host, what tells in them, and which of their paths are not there.
# Not POSIX: stat timeout

look_at_cdi() { # /run/cdi is /var/run/cdi wherever that is a link; claims of the DRA driver come and go
    cdi_list=
    for file in "$R"/etc/cdi/*.yaml "$R"/etc/cdi/*.json "$R"/var/run/cdi/*.yaml "$R"/var/run/cdi/*.json \
        "$R"/run/cdi/*.yaml "$R"/run/cdi/*.json; do
        case $file in *-claim_*) continue ;; esac
        if [ -f "$file" ]; then cdi_list="$cdi_list${file#"$R"}$NL"; fi
    done
    emit cdi-specs 0 "$cdi_list"
    [ -n "$cdi_list" ] || return 0
    set --
    set -f
    IFS=$NL
    for file in $cdi_list; do
        case $file in
        /run/cdi/*) case "$NL$cdi_list" in *"$NL/var$file$NL"*) continue ;; esac ;;
        esac
        if [ ! -r "$R$file" ]; then
            unseen "$file" 'it is there but cannot be read'
        elif [ $# -ge 16 ]; then
            unseen "$file" 'there are more than 16 CDI specifications'
        else
            set -- "$@" "$R$file"
        fi
    done
    IFS=$BLANKS
    set +f
    if [ $# -gt 0 ]; then read_cdi "$@"; fi
}

read_cdi() { # files below R: emits what they say, s mtime size file before all
    if ! have awk; then
        unseen 'what the CDI specifications say' 'awk is not installed'
        return
    fi
    if ! cdi_stats=$(stat -L -c '%Y %s %n' -- "$@" 2>/dev/null); then
        unseen 'what the CDI specifications say' 'stat does not answer'
        return
    fi
    set --
    cdi_text=
    set -f
    IFS=$NL
    for line in $cdi_stats; do
        cdi_size=${line#* }
        cdi_size=${cdi_size%% *}
        cdi_file=/${line#* "$R"/}
        cdi_text="${cdi_text}s ${line%% /*} $cdi_file$NL"
        if [ "$cdi_size" -gt 1000000 ]; then
            unseen "$cdi_file" 'it is larger than a megabyte'
        else
            set -- "$@" "$R$cdi_file"
        fi
    done
    if [ $# -gt 0 ]; then
        for line in $(cdi_tell "$@" </dev/null 2>/dev/null); do judge_cdi "$line"; done
    fi
    IFS=$BLANKS
    set +f
    emit cdi-scan 0 "$cdi_text"
}

judge_cdi() { # line of the filter: of the paths only those that are not there go on, as m path
    cdi_line=$1
    case $1 in
    'f '*)
        cdi_file=${1#"f $R"}
        cdi_line="f $cdi_file"
        ;;
    'p '*)
        if [ -e "$R${1#p }" ] || ! absent "$R${1#p }"; then return; fi
        cdi_line="m ${1#p }"
        ;;
    'o '*) # a form that the filter does not know: sent whole, for a parser to judge
        cdi_size=${cdi_text%%" $cdi_file$NL"*}
        if [ "${cdi_size##* }" -le 32768 ]; then
            add_file "$cdi_file"
        else
            unseen "$cdi_file" 'it is long, and of a form that the probe does not know'
        fi
        ;;
    esac
    cdi_text="$cdi_text$cdi_line$NL"
}

cdi_tell() { # files: what tells in each. f file, v version, k kind, d device, l driver, p path, o unknown form, b why broken
    cdi_words
    cdi_json
    cdi_stack
    cdi_yaml
    # shellcheck disable=SC2016  # the dollars are awk's
    limit 10 awk "$CDI_WORDS$CDI_JSON$CDI_STACK$CDI_YAML"'
    FNR == 1 {
        finish()
        files++
        form = name = ""
        depth = high = told = 0
        inner[0] = -1
        print "f " FILENAME
        sub(/^\357\273\277/, "")
    }
    { sub(/\r$/, "") }
    form != "json" && /^[ \t]*(#.*)?$/ { next }
    form == "" { form = /^[ \t]*[{]/ ? "json" : "yaml" }
    form == "json" { json($0); next }
    /^(---|\.\.\.)[ \t]*(#.*)?$/ { if (inner[0] >= 0) odd(); next }
    { yaml($0) }
    END { finish() }
    ' "$@"
}

cdi_words() { # what both forms share
    CDI_WORDS='
    function say(what, text) {
        if ((files, what, text) in said) return
        said[files, what, text] = 1
        print what " " text
    }
    function finish() {
        if (form == "json" && depth > 0 && !told) say("b", "it ends in the middle")
        if (form == "yaml") pop(-1, 0)
    }
    function host(path,   library) {
        if (path !~ /^\// || path ~ /\\/) return
        library = path
        sub(/^.*\//, "", library)
        if (library ~ /^lib(cuda|nvidia-ml)\.so\.[1-9][0-9][0-9]+(\.[0-9]+)+$/) {
            sub(/^.*\.so\./, "", library)
            say("l", library)
        }
        say("p", path)
    }
    function item(list, at) {
        if (list == "devices") { if ((at, "name") in field) print "d " field[at, "name"] }
        else if (list == "hooks") { if ((at, "path") in field) host(field[at, "path"]) }
        else if (list == "mounts" || list == "deviceNodes") {
            if ((at, "hostPath") in field) host(field[at, "hostPath"])
            else if (list == "deviceNodes" && (at, "path") in field) host(field[at, "path"])
        }
    }
    function clear(at) { delete field[at, "name"]; delete field[at, "path"]; delete field[at, "hostPath"] }
    function top_level(key, text) {
        if (key == "kind") say("k", text)
        if (key == "cdiVersion") say("v", text)
    }
    function odd() {
        if (!told) print "o " FNR
        told = 1
    }'
}

cdi_json() { # what stands between quotes is a name or a value, the rest is brackets, colons and commas
    CDI_JSON='
    function brackets(text,   i, c, bare) {
        bare = text
        gsub(/true|false|null|[0-9][eE]/, "", bare)
        if (bare ~ /[A-Za-z_#\047]/) { odd(); return } # braces of YAML, whose words need no quotes
        for (i = 1; i <= length(text); i++) {
            c = substr(text, i, 1)
            if (c == "{" || c == "[") {
                bracket[++depth] = c; under[depth] = name; name = ""
                if (c == "{") clear(depth)
            } else if (c == "}" || c == "]") {
                if (c == "}" && depth > 1 && bracket[depth - 1] == "[") item(under[depth - 1], depth)
                if (--depth < 0) { odd(); depth = 0 }
            }
        }
    }
    function json(line,   n, i, part, text) {
        n = split(line, part, "\"")
        for (i = 1; i <= n; i++) {
            brackets(part[i])
            if (++i > n) break
            text = part[i]
            while (text ~ /(^|[^\\])(\\\\)*\\$/ && i < n) text = text "\"" part[++i]
            if (i >= n) { odd(); return }
            gsub(/\\\//, "/", text)
            if (part[i + 1] ~ /^[ \t]*:/) name = text
            else if (name != "") {
                if (text ~ /\\/ && name ~ /^(kind|cdiVersion|name|path|hostPath)$/) odd()
                if (depth == 1) top_level(name, text)
                field[depth, name] = text
                name = ""
            }
        }
    }'
}

cdi_stack() { # YAML in blocks: the columns of keys and dashes, and what one line may hold
    CDI_STACK='
    function pop(column, dash) {
        while (high > 0 && (col[high] > column || (col[high] == column && !(dash && type[high] == "key")))) {
            if (type[high] == "item") item(word[high], high)
            high--
        }
    }
    function push(column, what, text) {
        high++; col[high] = column; type[high] = what; word[high] = text; inner[high] = -1
        if (what == "item") clear(high)
    }
    function quoted(text, form) {
        if (text !~ "^" form "[ \t]*$" && text !~ "^" form "[ \t]+#") return 0
        match(text, "^" form)
        plain = substr(text, 2, RLENGTH - 2)
        return 1
    }
    function scalar(text) { # a value on one line, its text into plain; escapes are for the parser
        if (text ~ /^"/) return quoted(text, "\"[^\"\\\\]*\"")
        if (text ~ /^\047/) {
            if (!quoted(text, "\047([^\047]|\047\047)*\047")) return 0
            gsub(/\047\047/, "\047", plain)
            return 1
        }
        plain = text
        sub(/[ \t]+#.*$/, "", plain)
        sub(/[ \t]+$/, "", plain)
        if (plain ~ /^(\[ *\]|[{] *[}])$/) return 1
        return plain ~ /^[A-Za-z0-9_.\/~+:-]/ && plain !~ /^[-:]( |$)/ && plain !~ /:( |$)/
    }'
}

cdi_yaml() { # one line; what it does not know is odd, and a parser shall judge
    CDI_YAML='
    function yaml(line,   column, key) {
        match(line, /^ */)
        column = RLENGTH
        line = substr(line, column + 1)
        if (line ~ /^\t/) { odd(); return }
        while (line ~ /^-( |$)/) {
            pop(column, 1)
            if (high == 0 || type[high] == "item") { odd(); return }
            push(column, "item", word[high])
            match(line, /^- */)
            column += RLENGTH
            line = substr(line, RLENGTH + 1)
            if (line == "" || line ~ /^#/) return
        }
        if (!match(line, /^("[A-Za-z0-9_.\/-]+"|[A-Za-z_][A-Za-z0-9_.\/-]*) *:( |$)/)) {
            if (high == 0 || type[high] != "item" || col[high] >= column || inner[high] >= 0 || !scalar(line)) odd()
            return
        }
        key = substr(line, 1, RLENGTH)
        line = substr(line, RLENGTH + 1)
        gsub(/[" :]/, "", key)
        sub(/^[ \t]+/, "", line)
        pop(column, 0)
        if (inner[high] >= 0 ? inner[high] != column : high == 0 && column > 0) { odd(); return }
        inner[high] = column
        if (line == "" || line ~ /^#/) { push(column, "key", key); return }
        if (!scalar(line)) { odd(); return }
        if (high == 0) top_level(key, plain)
        else if (type[high] == "item") field[high, key] = plain
    }'
}
