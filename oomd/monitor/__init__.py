"""Observe: one epoll, the sampler, the process table."""
