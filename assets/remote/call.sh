# Call the guard that an earlier `prepare` left in the run folder: ROLE RUN [ARGUMENT]. Nothing but POSIX.

main() {
    case $2 in
        '' | -* | *[!A-Za-z0-9-]*) return 64 ;;
    esac
    guard="$R/var/lib/gpuwizard/runs/$2/guard.sh"
    if [ ! -r "$guard" ]; then
        printf '@state none 0 \n'
        return 0
    fi
    sh "$guard" "$@"
}
