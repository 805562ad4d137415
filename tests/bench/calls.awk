# Reads strace's file of a server (loop calls) and prints "SYSTEM CALLS A TURN" between its marks
# 2 * phase - 1 and 2 * phase, beyond the server's own: its wait, recvfrom and sendto on its socket,
# descriptor 100, and a send for each 32 KiB that is logged. The sink, which the server starts as a
# process of its own, is not the server. -v phase=1: busy; 2: nothing is logged.
/^[0-9]+ +execve\(/ && /"sink"/ { outside[$1] = 1 }
$1 in outside { next }
/write\(-1, "mark"/ { marker = $1; marks++; next }
marks != 2 * phase - 1 { next }
/^[0-9]+ +(<\.\.\. )?(sendto|sendmsg|write|writev)[( ]/ && !/sendto\(100,/ && / = [0-9]+$/ {
    bytes += $NF
}
!/^[0-9]+ +[a-z0-9_]+\(/ { next }
$1 == marker && $2 ~ /^(poll|ppoll|epoll_wait|epoll_pwait)\(/ { turns++; next }
$2 ~ /^(recvfrom|sendto)\(100,/ { next }
{ calls++ }
$2 ~ /^(sendto|sendmsg|write|writev)\(/ { sends++ }
END {
    allowed = int((bytes + 32767) / 32768)
    if (allowed > sends) allowed = sends + 0
    if (marks != 4 || !turns) exit 1
    printf "%.5g\n", (calls - allowed) / turns
}
