# Completion of dnstap's flags and files in bash.
_dnstap()
{
    local flags all current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    flags='-r -u -l -c -t -w -a -U -T -q -y -j -n -h'
    all='--idle --max-connections --socket-mode --socket-group --tls-ca --tls-cert --tls-key
        --tls-name --tls-insecure --overwrite --rotate-size --rotate-time --exact --date --color
        --type --name --client --rcode --follow --repair --check-config --lenient --help --version'
    COMPREPLY=()
    case $before in
    -r | -u | -w | -U | --tls-ca | --tls-cert | --tls-key | --repair | --check-config)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return ;;
    --socket-group)
        mapfile -t COMPREPLY < <(compgen -g -- "$current")
        return ;;
    --color)
        mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$current")
        return ;;
    -l | -T | -c)
        mapfile -t COMPREPLY < <(compgen -W 'tcp:// tls:// unix://' -- "$current")
        return ;;
    -t | -n | --idle | --max-connections | --socket-mode | --tls-name | --rotate-size | \
        --rotate-time | --type | --name | --client | --rcode)
        return ;;
    esac
    case $current in
    -*) mapfile -t COMPREPLY < <(compgen -W "$flags $all" -- "$current") ;;
    *)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    esac
}
complete -F _dnstap dnstap
